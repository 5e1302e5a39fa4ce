"""Images of guests, read without booting them: kernels, unified kernel images, disks.

One small file a container format (`elf`, `bzimage`, `arm64`, `pe`, `disk`, `qcow2`, `packed`):
each turns bytes into *marks* (what the image shows, with its offset) and facts for people.
`recognise` holds the marks against the formulas of knowledge/guests.toml, and `deployment` places
what was recognised into the knowledge base's deployment. To add a system, add an entry to
guests.toml; to add a format, copy `pe.py` and give it a row in `image.py`.

May import what `collect` may, and `measure.place` and `measure.guest` (`deployment` alone): an
image that does not run is a template with what was seen in it put in its place. `examined` reads
what `ringfence guest` has saved; `measure.guest` judges that.
"""
