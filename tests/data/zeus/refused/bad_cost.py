[]
# Iteration 1 cost change: 1.0
# Iteration 1 total cost: high
# Iteration 1 total cost with P2P: 3
