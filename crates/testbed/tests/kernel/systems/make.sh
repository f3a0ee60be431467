# Makes a small system, on a CD that boots as a disk too, and as such in both forms.
set -eu
root=/var/tmp/root cd=/var/tmp/cd
version=$(ls /lib/modules)
mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/modules" "$cd/isolinux" /srv
cp /bin/busybox "$root/bin/busybox"
number=10
for module in virtio_blk virtio_net evdev button; do
    modprobe -S "$version" --show-depends "$module"
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r path; do
    xz -dc "$path" > "$root/modules/$number-$(basename "$path" .xz)"
    number=$((number + 1))
done
cp /etc/system-init "$root/init"
chmod 755 "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1) > "$cd/initrd"
cp "/boot/vmlinuz-$version" "$cd/vmlinuz"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$cd/isolinux"
cat > "$cd/isolinux/isolinux.cfg" <<'END'
default linux
label linux
kernel /vmlinuz
append initrd=/initrd console=ttyS0 quiet panic=-1 nokaslr mitigations=off tsc=reliable no_timer_check
END
xorriso -as mkisofs -quiet -o /srv/system.iso -isohybrid-mbr /usr/lib/ISOLINUX/isohdpfx.bin -c isolinux/boot.cat \
    -b isolinux/isolinux.bin -no-emul-boot -boot-load-size 4 -boot-info-table "$cd"
cp /srv/system.iso /srv/system.raw
truncate -s 64M /srv/system.raw
qemu-img convert -f raw -O qcow2 /srv/system.raw /srv/system.qcow2
rm -r "$root" "$cd"
