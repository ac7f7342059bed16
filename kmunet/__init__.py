"""KM-UNet for medical image segmentation: operators, model, data, training, evidence."""

__version__ = "0.1.0"
