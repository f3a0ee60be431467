# Makes a disk of the root file system that comes as an archive.
set -eu
root=/var/tmp/root
mkdir -p "$root" /usr/lib/testbed
tar -x -p --numeric-owner --xattrs --xattrs-include='security.capability' --xattrs-include='user.*' --anchored --exclude='./dev/*' --exclude='dev/*' -C "$root"
mkfs.erofs --quiet -T 0 "$1" "$root"
rm -r "$root"
