"""World models see, predict and plan in one latent space; so far the scene encoders. Torch and timm only."""
