"""The Graphormer: attention over tokens with graph and geometric biases. Knows tensors, not schedules."""
