"""Pictures → features: extractors with packaged, downloaded or given weights."""
