"""KM-UNet for medical images: operators, model, data, training, evidence."""

__version__ = "0.1.0"
