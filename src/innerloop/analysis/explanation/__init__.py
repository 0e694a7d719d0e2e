"""Why one run beats another: measurements on two trained networks, and sentences from them."""
