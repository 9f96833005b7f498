//! Tests of finding, hashing and inspecting models.
