"""The endless plane as pure functions of place: coordinates, anchors, noise, codes."""
