//! The recommended order.
