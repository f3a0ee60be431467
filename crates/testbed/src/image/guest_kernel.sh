# Takes the kernel that an image has, which comes as an archive ($1 is `image`), or the one that lies here (`file`), and its
# modules: for a guest to start, and to find its root.
set -eu
here=/usr/lib/testbed
given=$here/given
modules=
if [ "$1" = image ]; then
    given=/var/tmp/given
    mkdir -p "$given"
    # The names that no file has are no reason to stop.
    tar -x --numeric-owner --wildcards -C "$given" '*boot/vmlinuz-*' '*lib/modules/*' 2> /var/tmp/said || true
    kernel=$(ls "$given"/boot/vmlinuz-* 2> /dev/null | sort -V | tail -n 1)
    if [ -z "$kernel" ]; then
        echo "the image has no kernel: there is no /boot/vmlinuz-…; add a package such as linux-image-amd64"
        exit 1
    fi
    version=${kernel##*/vmlinuz-}
    for folder in "$given/usr/lib/modules/$version" "$given/lib/modules/$version"; do
        if [ -d "$folder" ]; then modules=$folder; fi
    done
else
    kernel=$given/kernel
    # Where a bzImage has its version (Documentation/arch/x86/boot.rst); others say what they say when they start.
    if [ "$(dd if="$kernel" bs=1 skip=514 count=4 2> /dev/null)" = HdrS ]; then
        at=$(od -An -tu2 -j526 -N2 "$kernel" | tr -d ' ')
        version=$(dd if="$kernel" bs=1 skip=$((at + 512)) count=128 2> /dev/null | tr '\0 ' '\n\n' | head -n 1)
    else
        version=$(grep -a -o -m 1 'Linux version [^ ]*' "$kernel" | head -n 1 | cut -d' ' -f3)
    fi
    if [ -z "$version" ]; then
        echo "the file is no kernel that can be started: a bzImage or a vmlinux is"
        exit 1
    fi
    if [ -d "$given/modules" ]; then modules=$given/modules; fi
fi
tree=/var/tmp/tree
mkdir -p "$tree/lib/modules/$version" /var/tmp/first/modules
if [ -n "$modules" ]; then
    cp -a "$modules/." "$tree/lib/modules/$version"
    find "$tree" -name '*.ko.xz' -exec xz -d {} +
    find "$tree" -name '*.ko.gz' -exec gzip -d {} +
    if [ -n "$(find "$tree" -name '*.ko.zst' | head -n 1)" ]; then
        echo "the modules of the kernel $version are packed with zstd, which is not known here: unpack them"
        exit 1
    fi
    depmod -b "$tree" "$version"
    # What its root is behind, and what it is reached by.
    number=10
    for module in virtio_pci virtio_console virtio_blk virtio_net erofs overlay ext4; do
        if ! modprobe -d "$tree" -S "$version" --show-depends "$module" > /var/tmp/needed 2> /var/tmp/said; then
            echo "the kernel $version has no module \`$module\`, which its machine needs to start"
            exit 1
        fi
        cat /var/tmp/needed
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p; /^the kernel/w /var/tmp/missing' | awk '!seen[$0]++' > /var/tmp/all
    if [ -s /var/tmp/missing ]; then
        cat /var/tmp/missing
        exit 1
    fi
    while read -r path; do
        cp "$path" "/var/tmp/first/modules/$number-$(basename "$path")"
        number=$((number + 1))
    done < /var/tmp/all
fi
# Without modules all must be in the kernel.
touch "$tree/lib/modules/$version/modules.dep" "$tree/lib/modules/$version/modules.builtin" \
    "$tree/lib/modules/$version/modules.alias"
(cd /var/tmp/first && find modules | cpio --quiet -o -H newc -R 0:0) > "$here/modules.cpio"
cp "$kernel" "$here/kernel"
rm -f "$here/modules.erofs"
mkfs.erofs --quiet -T 0 -z lz4 "$here/modules.erofs" "$tree/lib/modules"
rm -rf "$tree" /var/tmp/first "$given" /var/tmp/said /var/tmp/needed /var/tmp/missing /var/tmp/all
