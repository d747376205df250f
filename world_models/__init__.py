"""World models: scene encoders, latent dynamics, losses and planners. Built on torch and timm only."""
