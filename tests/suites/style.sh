#!/bin/bash
# about: C is formatted by .clang-format, shell scripts parse
# limit: 360
. "$(dirname "$0")/../lib.sh"
require_program clang-format clang-format

tracked() { # PATTERN...
	git -c safe.directory='*' ls-files -- "$@"
}

shell_scripts() {
	local file line
	while read -r file; do
		[[ -f $file ]] || continue
		case $file in
		*.sh) echo "$file" ;;
		*.*) ;;
		*)
			IFS= read -r line <"$file" || true
			[[ ! $line =~ ^#!.*/(env\ )?(ba)?sh ]] || echo "$file"
			;;
		esac
	done < <(tracked)
}

formatted() {
	tracked '*.c' '*.h' | xargs -r clang-format --dry-run --Werror
}

parse_all() {
	local file
	for file in $(shell_scripts); do bash -n "$file" || return; done
}

tracked >/dev/null || skip_all "not a git checkout"
check "C sources are formatted as .clang-format says" formatted
check "shell scripts parse" parse_all
