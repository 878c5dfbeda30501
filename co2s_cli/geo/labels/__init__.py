"""Labels, truth and weights of pixels on a scene's grid."""
