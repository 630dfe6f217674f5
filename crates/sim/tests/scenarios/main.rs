//! What happens to clusters, and what must come of it. Where a doc comment says "foca alone", it gives what
//! was measured with foca's own settings and nothing around it.

mod agreement;
mod common;
mod forgetting;
mod lives;
mod load;
mod orders;
mod renames;
mod together;
mod trouble;
mod watched;
