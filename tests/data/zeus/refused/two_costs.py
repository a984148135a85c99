[]
# Iteration 1 cost change: 1.0
# Iteration 1 total cost: 2.0
