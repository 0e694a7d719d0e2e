"""Why one run is better than another: measurements on two trained networks, and sentences that follow from them."""
