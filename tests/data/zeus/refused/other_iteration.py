[]
# Iteration 1 cost change: 1.0
# Iteration 2 total cost: 2
# Iteration 1 total cost with P2P: 3
