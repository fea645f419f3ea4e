"""Concepts in OCI registries (GHCR, Harbor, Docker's): `oci://host/namespace`. See `registry`."""
