//! The mammoth binary.
fn main() {}
