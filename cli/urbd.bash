# bash completion for urbd(8)                                               -*- shell-script -*-

_urbd_options() { # COMMAND: its long options, as its help shows them
	urbd help "$1" 2>/dev/null | grep -oE '^ +(-., )?--[a-z-]+' | grep -oE -- '--[a-z-]+'
}

_urbd_members() { # NAME [URBD'S OPTION...]: of what is mapped and exported
	urbd "${@:2}" list --format json 2>/dev/null | grep -oE "\"($1)\":\"[^\"]+\"" | cut -d'"' -f4
}

_urbd() {
	local cur prev words cword command='' i socket=()
	_init_completion || return
	for ((i = 1; i < cword; i++)); do
		case ${words[i]} in
		--socket) socket=(--socket "${words[++i]}") ;;
		-*) ;;
		*) command=${words[i]} && break ;;
		esac
	done
	case $prev in
	--socket | --keyring | --tls-certificates | --tls-keys | --keyfile | --conf | --quiesce-hook | -k | -K | -c) _filedir && return ;;
	--frontend) COMPREPLY=($(compgen -W 'auto ublk nbd' -- "$cur")) && return ;;
	--format) COMPREPLY=($(compgen -W 'plain json' -- "$cur")) && return ;;
	--lock) COMPREPLY=($(compgen -W 'auto exclusive none' -- "$cur")) && return ;;
	--client) COMPREPLY=($(compgen -W 'shared pool: isolated' -- "$cur")) && return ;;
	esac
	if [[ -z $command ]]; then
		COMPREPLY=($(compgen -W 'map unmap drain resume set export unexport list status stat version help --socket --help --version' -- "$cur"))
	elif [[ $cur = -* ]]; then
		COMPREPLY=($(compgen -W "$(_urbd_options "$command")" -- "$cur"))
	elif [[ $command = set && ${words[cword - 1]} != set ]]; then
		compopt -o nospace
		COMPREPLY=($(compgen -S = -W 'rbd_qos_iops_limit rbd_qos_iops_burst rbd_qos_bps_limit rbd_qos_bps_burst
			rbd_qos_read_iops_limit rbd_qos_read_iops_burst rbd_qos_write_iops_limit rbd_qos_write_iops_burst
			rbd_qos_read_bps_limit rbd_qos_read_bps_burst rbd_qos_write_bps_limit rbd_qos_write_bps_burst' -- "$cur"))
	elif [[ $command = unmap || $command = drain || $command = resume || $command = set || $command = status ]]; then
		COMPREPLY=($(compgen -W "$(_urbd_members device "${socket[@]}")" -- "$cur"))
	elif [[ $command = unexport ]]; then
		COMPREPLY=($(compgen -W "$(_urbd_members name "${socket[@]}")" -- "$cur"))
	elif [[ $command = stat ]]; then
		COMPREPLY=($(compgen -W "$(_urbd_members 'device|name' "${socket[@]}")" -- "$cur"))
	elif [[ $command = help ]]; then
		COMPREPLY=($(compgen -W 'map unmap drain resume set export unexport list status stat version' -- "$cur"))
	fi
} &&
	complete -F _urbd urbd
