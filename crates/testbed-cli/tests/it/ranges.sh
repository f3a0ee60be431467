# Runs "$@" as an ordinary user who has a range of ids, in a mount namespace of its own: the host's root, with this user in
# it and the programs that map ids. Variables: ID NAME FIRST COUNT PROGRAMS TEMPORARY FOLDER.
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$FOLDER"
mkdir "$FOLDER/upper" "$FOLDER/work" "$FOLDER/root"
cd "$FOLDER"
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
cd root
echo "$NAME:x:$ID:$ID::$HOME:/bin/sh" >>etc/passwd
echo "$NAME:x:$ID:" >>etc/group
for file in etc/subuid etc/subgid; do echo "$NAME:$FIRST:$COUNT" >>"$file"; done
cp -a "$PROGRAMS"/. .
for program in usr/bin/newuidmap usr/bin/newgidmap; do chown 0:0 $program && chmod 4755 $program; done
for folder in /dev /proc /sys "$TEMPORARY"; do mount --rbind "$folder" ".$folder"; done
mkdir -p mnt/old
pivot_root . mnt/old
umount -l /mnt/old
cd "$HOME"
exec setpriv --reuid "$ID" --regid "$ID" --clear-groups -- env -u ID -u NAME -u FIRST -u COUNT -u PROGRAMS -u TEMPORARY -u FOLDER "$@"
