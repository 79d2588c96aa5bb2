"""Self-captioning: a model describes objects whose boxes are known; what it says is sifted."""
