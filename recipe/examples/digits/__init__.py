"""Handwritten digits: a small ResNet on scikit-learn's bundled images."""
