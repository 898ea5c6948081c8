"""Pictures → features, by extractors that are packaged or whose weights are named."""
