#!/bin/sh
# Fetches the newest source of Prosody that Debian has, with Debian's signatures checked, and prints the directory in
# which its specifications are. Touches nothing of the system's: apt works in a directory of its own.
#   fetch-spec.sh DIRECTORY
set -eu
directory=$1
if [ -f "$directory/spec/core_storagemanager_spec.lua" ]; then
    echo "$directory/spec"
    exit 0
fi
command -v apt-get >/dev/null || { echo 'there is no apt-get' >&2; exit 3; }
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f "$keys" ] || { echo "there is no $keys" >&2; exit 3; }
mkdir -p "$directory/apt/lists/partial" "$directory/apt/cache/archives/partial"
cd "$directory/apt"
echo "deb-src [signed-by=$keys] http://deb.debian.org/debian trixie main" > sources.list
cat > apt.conf <<END
Dir::Etc::SourceList "$PWD/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Lists "$PWD/lists";
Dir::Cache "$PWD/cache";
APT::Sandbox::User "";
Acquire::Retries "3";
END
export APT_CONFIG="$PWD/apt.conf"
{ apt-get -q update && apt-get -q source --download-only --tar-only prosody; } >&2 || exit 3
# Into place in one step, so that half of it is never taken for all of it.
rm -rf unpacked
mkdir unpacked
tar -xzf prosody_*.orig.tar.gz -C unpacked --strip-components=1
rm -rf ../core
mv unpacked/core ../core
mv unpacked/spec ../spec
echo "$directory/spec"
