//! Contents of files in page frames.
