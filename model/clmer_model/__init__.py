"""The CLMER model: encoders, contrastive losses, cross-modal fusion, artifacts and prediction."""
