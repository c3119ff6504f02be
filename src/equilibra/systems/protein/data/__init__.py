"""Training data of proteins: backbones from structures, trajectories and the layouts of public sets."""
