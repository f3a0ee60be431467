# Installs the packages "$@" in a machine that builds a layer.
set -eu
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true
if ! command -v apt-get >/dev/null; then
    echo 'packages need a base with apt-get; use `run` with the package manager that it has' >&2
    exit 127
fi
# All that apt downloads goes here, and does not become part of the layer.
own=/var/cache/testbed-apt
mkdir -p "$own/lists/partial" "$own/archives/partial"
apt() {
    apt-get -q -o "Dir::State::lists=$own/lists" -o "Dir::Cache=$own" -o "APT::Sandbox::User=$sandbox" \
        -o Acquire::Languages=none -o Acquire::Retries=3 -o Acquire::http::Pipeline-Depth=0 \
        -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confold "$@"
}
# With one id only there is nobody whom apt could become, and no `man` to own the folder that man-db makes if it is
# not there.
sandbox=_apt
read -r _ _ ids </proc/self/uid_map
[ "$ids" -gt 1 ] || { sandbox=root && mkdir -p /var/cache/man; }
apt update
apt install --yes --no-install-recommends "$@"
