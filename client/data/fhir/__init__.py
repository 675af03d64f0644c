"""FHIR R4 through ViewDefinitions of SQL on FHIR v2."""
