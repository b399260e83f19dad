//! The binary as a user meets it: what it prints, what it writes, how it ends.

mod arguments;
mod bad_input;
mod demo;
mod describe;
mod predict;
mod score;
mod serve;
mod support;
mod train;
