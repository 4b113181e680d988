"""Small networks as Metal source: evaluated inside the shader, one point or pixel a thread."""
