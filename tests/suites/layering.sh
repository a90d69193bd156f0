#!/bin/bash
# about: no include and no dependency crosses a wall between folders
# limit: 360
. "$(dirname "$0")/../lib.sh"

# Which folders, and which libraries, each folder may name. The table of the architecture.
declare -A folders=(
	[common]=""
	[core]="common"
	[image]="core common"
	[ublk]="core common"
	[nbd]="core common"
	[control]="common"
	[daemon]="common core image ublk nbd control"
	[cli]="control common"
	[plugin]="control common"
)
declare -A libraries=(
	[common]=""
	[core]="uring"
	[image]="rbd rados"
	[ublk]="uring"
	[nbd]="uring nl gnutls"
	[control]="jansson"
	[daemon]="uring jansson systemd"
	[cli]="jansson"
	[plugin]="jansson blkid mount yaml"
)
# What an executable must not be linked to, at all.
declare -A unlinked=(
	[urbd]="librbd librados liburing"
	[urbd-flex]="librbd librados liburing"
	[urbd-pod]="librbd librados liburing"
)

among() { # WORD WORD...
	local word=$1
	shift
	[[ " $* " = *" $word "* ]]
}

sources() { # FOLDER
	find "$root/$1" -name '*.[ch]' | sort
}

library_of() { # HEADER: the library of ours that it belongs to, if any
	case $1 in
	liburing.h | liburing/*) echo uring ;;
	rbd/*) echo rbd ;;
	rados/*) echo rados ;;
	jansson.h) echo jansson ;;
	yaml.h) echo yaml ;;
	blkid/*) echo blkid ;;
	libmount/*) echo mount ;;
	netlink/*) echo nl ;;
	gnutls/*) echo gnutls ;;
	systemd/*) echo systemd ;;
	esac
}

check_quoted() { # FOLDER: "folder/file.h", relative to the top
	local file path
	while IFS=: read -r file path; do
		[[ $path = */* ]] || { echo "$file: \"$path\" does not name its folder" && continue; }
		# shellcheck disable=SC2086  # a list of words
		among "${path%%/*}" "$1" ${folders[$1]} || echo "$file: $1 may not include \"$path\""
	done < <(sources "$1" | xargs -r sed -nE 's/^[ \t]*#[ \t]*include[ \t]*"([^"]*)".*/\1/;T;F;p' |
		paste -d : - -)
}

check_angled() { # FOLDER: <header.h> of a library
	local file path library
	while IFS=: read -r file path; do
		library=$(library_of "$path")
		# shellcheck disable=SC2086  # a list of words
		[[ -z $library ]] || among "$library" ${libraries[$1]} ||
			echo "$file: $1 may not include <$path>"
	done < <(sources "$1" | xargs -r sed -nE 's/^[ \t]*#[ \t]*include[ \t]*<([^>]*)>.*/\1/;T;F;p' |
		paste -d : - -)
}

# Words such as liburing_dep, nl_genl_dep, core_dep and dependency('libnl-3.0').
dependency_words() { # FILE
	grep -vE '^[ \t]*#' "$1" | grep -oE "[a-z0-9_]+_dep\b|(dependency|find_library)\('[^']*'" |
		sed -E "s/.*'(.*)'/\1/; s/_dep\$//; s/^lib//; s/-[0-9.]+\$//; s/[-_](genl|session).*//" |
		sort -u
}

check_meson() { # FOLDER
	local word
	[[ -f $root/$1/meson.build ]] || return 0
	while read -r word; do
		# shellcheck disable=SC2086  # lists of words
		among "$word" "$1" threads ${folders[$1]} ${libraries[$1]} && continue
		among "$word" "${!folders[@]}" uring rbd rados jansson blkid mount yaml nl gnutls systemd ||
			continue # the folder's own, e.g. a part of itself
		echo "$1/meson.build: $1 may not depend on $word"
	done < <(dependency_words "$root/$1/meson.build")
}

check_unknown_folders() {
	local file folder
	while read -r file; do
		folder=${file%%/*}
		among "$folder" "${!folders[@]}" tests build ||
			echo "$file: $folder/ is not in the table of tests/suites/layering.sh"
	done < <(cd "$root" && find . -mindepth 2 -name '*.[ch]' -not -path './build*' |
		sed 's|^\./||')
}

violations() { # ROOT
	local folder
	root=$1
	check_unknown_folders
	for folder in "${!folders[@]}"; do
		[[ -d $root/$folder ]] || continue
		check_quoted "$folder"
		check_angled "$folder"
		check_meson "$folder"
	done
}

check_none() { # NAME COMMAND...: it prints nothing
	local found
	found=$("${@:2}")
	check_equal "$1" "$found" ""
}

check_linked() { # EXECUTABLE LIBRARY...
	local file needed library
	file=$(find "$build" -type f -name "$1" -perm -u+x | head -n 1)
	[[ -n $file ]] || { echo "$1 is not in $build" && return; }
	needed=$(readelf -d "$file" | grep NEEDED) || { echo "$1: readelf shows no library" && return; }
	for library in "${@:2}"; do
		[[ $needed != *"[$library."* ]] || echo "$1 is linked to $library"
	done
}

# ---- the check itself can fail

inject() { # FOLDER FILE TEXT PATTERN: a copy of the tree with this line more is refused
	local copy=$TEST_DIR/inject found
	rm -rf "$copy"
	mkdir -p "$copy/$1"
	echo "$3" >"$copy/$1/$2"
	found=$(violations "$copy")
	if [[ $found = *$4* ]]; then
		ok "refused: $3 in $1/$2"
	else
		not_ok "refused: $3 in $1/$2" "${found:-nothing was found}"
	fi
}

check_none "every include and dependency stays within its walls" violations "$top"
for name in "${!unlinked[@]}"; do
	# shellcheck disable=SC2086  # a list of words
	check_none "$name links neither librbd nor liburing" check_linked "$name" ${unlinked[$name]}
done
check_equal "an executable that is missing is told" "$(check_linked urbd-none librbd)" \
	"urbd-none is not in $build"
check_equal "a library that is linked is told" "$(check_linked urbdd librbd)" "urbdd is linked to librbd"
inject image bad.c '#include "ublk/ublk.h"' 'image may not include "ublk/ublk.h"'
inject common bad.h '#include "core/queue.h"' 'common may not include "core/queue.h"'
inject cli bad.c '#include <liburing.h>' 'cli may not include <liburing.h>'
inject daemon bad.c '#  include <rbd/librbd.h>' 'daemon may not include <rbd/librbd.h>'
inject core bad.c '#include "queue.h"' 'does not name its folder'
inject cli bad.c '#include <yaml.h>' 'cli may not include <yaml.h>'
inject cli meson.build "x = dependency('yaml-0.1')" 'cli may not depend on yaml'
inject plugin meson.build "x = dependency('liburing')" 'plugin may not depend on uring'
inject ublk meson.build 'ublk_deps = [core_dep, image_dep]' 'ublk may not depend on image'
inject stray bad.c '#include <stdio.h>' 'stray/ is not in the table'
