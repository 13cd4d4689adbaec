//! A virtual Espressif chip: line levels and bytes in, bytes out.
