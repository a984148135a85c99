[
[('forward', 1410), ('forward', 900), ('backward', 1320)],
[('forward', 0), ('backward', 1410)],
]
# Iteration 2328 cost change: 1.0586643526687247
# Iteration 2328 total cost: 1798.1348593212274
# Iteration 2328 total cost with P2P: 2566.5348593212275
