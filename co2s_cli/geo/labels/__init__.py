"""Labels, reference labels (truth) and label weights of the pixels of a scene's grid."""
