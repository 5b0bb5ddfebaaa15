"""Our own engine for x86-64 with AVX2: C kernels (encoder.h says how they are cut), and what calls them."""
