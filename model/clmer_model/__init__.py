"""The CLMER model: encoders, contrastive losses, cross-modal fusion, artefacts and prediction."""
