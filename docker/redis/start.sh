#!/bin/sh
# Starts Redis with the password of SCREEN_REDIS_PASSWORD, of which only a digest is written, and
# that into memory. DIR: where the files beside this script are; ACL: where the users go.
set -eu
umask 077
: "${SCREEN_REDIS_PASSWORD:?is not set}"
digest=$(printf %s "$SCREEN_REDIS_PASSWORD" | sha256sum | cut -d ' ' -f 1)
unset SCREEN_REDIS_PASSWORD
sed "s/@SHA256@/$digest/" "${DIR:=/etc/screen}/users.acl" > "${ACL:=/tmp/users.acl}"
exec redis-server "$DIR/redis.conf" --aclfile "$ACL" "$@"
