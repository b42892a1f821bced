"""What differs between the Keras backends."""
