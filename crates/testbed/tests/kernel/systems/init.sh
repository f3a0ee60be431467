#!/bin/busybox sh
# Counts its starts on its disk, and in memory how long it has run. Ends when its power button is pressed.
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in /modules/*; do insmod "$module"; done
ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
    ip address add 10.0.0.9/24 dev eth0
    ip link set eth0 up
fi
starts=$(dd if=/dev/vda bs=1M skip=60 count=1 2>/dev/null | head -n 1 | tr -dc 0-9)
starts=$((${starts:-0} + 1))
echo "$starts" | dd of=/dev/vda bs=1M seek=60 conv=sync,fsync 2>/dev/null
for event in /dev/input/event*; do
    (head -c 24 "$event" > /dev/null; echo "button pressed"; sync; poweroff -f) &
done
echo "system is up, start $starts"
ticks=0
while sleep 0.2; do
    ticks=$((ticks + 1))
    echo "start $starts tick $ticks"
done
