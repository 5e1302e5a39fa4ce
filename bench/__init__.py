"""What Ringfence costs, as ratios in one run: `make bench`. Tests assert behaviour, not time."""
