#!/bin/sh
# Installs the Debian packages that the tests drive (real WebDAV clients and servers), when root and apt-get are there.
# Elsewhere it says what is missing; the tests then skip what needs it, or fail when CI=true.
set -eu
packages="litmus cadaver davfs2 rclone fuse3 curl libglib2.0-bin dbus-daemon gvfs gvfs-backends apache2 nginx faketime strace"
packages="$packages iproute2 nftables"
# Node's own packages of nodejs bring npm, and are not to be replaced.
command -v npm >/dev/null || packages="$packages nodejs npm"
missing=""
for package in $packages; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "davfs: not installed, and only root can (apt-get install$missing)" >&2
    exit 0
fi
echo "davfs: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# Packages must not start their services here: the tests start Apache by themselves, on ports of their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -q >/dev/null
# shellcheck disable=SC2086
apt-get install -q -y --no-install-recommends $missing >/dev/null
