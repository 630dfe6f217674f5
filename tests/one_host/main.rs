//! One host: dockerd starts shims, shims register with the registrar, the registrar programs Envoy.
//!
//! Each file is a theme; every test makes its own host or two, so they run beside each other.

mod lab_itself;
