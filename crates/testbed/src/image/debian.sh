# Makes a Debian root file system in $ROOT from packages, in a machine that shows the host's root.
# Variables: ROOT CODENAME SOURCES KEYRING PACKAGES.
set -eu
umask 022
say() { printf '== %s\n' "$*"; }

mkdir -p "$ROOT" && cd "$ROOT"
mkdir -p usr/bin usr/sbin usr/lib etc/apt/apt.conf.d etc/apt/preferences.d etc/apt/sources.list.d \
    etc/apt/trusted.gpg.d var/lib/apt/lists/partial var/cache/apt/archives/partial var/lib/dpkg/info \
    var/lib/dpkg/updates var/log/apt dev proc sys tmp run
chmod 1777 tmp
for name in bin sbin lib; do ln -s "usr/$name" "$name"; done
architecture=$(dpkg --print-architecture)
case "$architecture" in
    amd64 | x32 | mips64* | ppc64* | s390x | loong64) mkdir usr/lib64 && ln -s usr/lib64 lib64 ;;
esac
: >var/lib/dpkg/status
: >var/lib/dpkg/available
: >etc/fstab

# What the host had to be told about its mirror, the image must be told as well.
settings='^Acquire::(Check-Valid-Until|Check-Date|Max-FutureTime) '
apt-config dump | grep -E "$settings" >etc/apt/apt.conf.d/90mirror || rm -f etc/apt/apt.conf.d/90mirror
write_sources() {
    printf '%s\n' "$SOURCES" | while read -r uri suite; do
        printf 'deb [signed-by=%s] %s %s main\n' "$1" "$uri" "$suite"
    done >etc/apt/sources.list
}
write_sources "$KEYRING"

configuration=/run/apt.conf
cat >"$configuration" <<END
Dir "$ROOT";
Dir::State::status "$ROOT/var/lib/dpkg/status";
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Get::Assume-Yes "true";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Pipeline-Depth "0";
Dpkg::Use-Pty "false";
END
export APT_CONFIG="$configuration"

say "lists of $CODENAME"
apt-get -q update
say "packages"
# shellcheck disable=SC2086 # a list of words
apt-get -q install --download-only '?essential' $PACKAGES
unset APT_CONFIG

say "extract"
archives="$ROOT/var/cache/apt/archives"
for package in "$archives"/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -C "$ROOT" -xp --keep-directory-symlink
done

say "configure"
printf '#!/bin/sh\nexit 101\n' >usr/sbin/policy-rc.d
chmod 755 usr/sbin/policy-rc.d
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true
chroot "$ROOT" sh -c 'dpkg --install --force-depends --force-unsafe-io /var/cache/apt/archives/*.deb'
chroot "$ROOT" dpkg --audit

say "clean"
rm -f usr/sbin/policy-rc.d etc/machine-id var/log/dpkg.log var/log/bootstrap.log var/log/alternatives.log
rm -rf var/lib/apt/lists var/cache/apt var/log/apt
mkdir -p var/lib/apt/lists/partial var/cache/apt/archives/partial var/log/apt
for name in gpg pgp; do
    keyring="/usr/share/keyrings/debian-archive-keyring.$name"
    if [ -e "$ROOT$keyring" ]; then write_sources "$keyring"; break; fi
done
