# shellcheck shell=bash
# What the scripts beside this one share. A script declares its files and archives, then calls `run "$@"`:
#   bash scripts/download/NAME.sh [--help] [--list] [--no-unpack] [DATA_ROOT [PART ...]]
#
# A transfer goes on where it was cut. A file appears under its name only when it is whole and verified. What is there
# is never overwritten: the right file is left alone, another one is refused. Archives can be deleted once they are
# unpacked; nothing in them can land outside of their folder. Programs and room on the disk are looked for first.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
source "$here/common_transfers.sh"
source "$here/common_zips.sh"

NONE=- # a size or checksum that is not known, an archive without a folder to look for
items=()

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

has() {
  command -v "$1" >/dev/null
}

show_help() { # the head of the script, and what all of them know
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
  cat <<'HELP'

  DATA_ROOT    the folder that evaluations call --data-root (default: data)
  PART ...     what to fetch, patterns such as '*2017' too (default: all)
  --list       prints parts, sizes, checksums, addresses and files; fetches nothing
  --no-unpack  leaves zips packed
Variables:
  LOCVLM_DOWNLOAD_BASE=http://mirror:8000/data  in place of scheme and host of every address
  LOCVLM_DOWNLOAD_TRIES=6    a transfer is given up after so many tries without progress
  LOCVLM_DOWNLOAD_WAIT=2     seconds before the second try, doubled each time
  LOCVLM_DOWNLOAD_STALL=60   seconds without a byte after which a connection counts as cut
HELP
}

file() { # PART URL PATH [CHECKSUM [BYTES]]: one file. CHECKSUM: SHA-256 or MD5; BYTES: checked when it is a number
  declare_item file "$1" "$2" "$3" "$NONE" "${4:-$NONE}" "${5:-$NONE}"
}

archive() { # PART URL FOLDER HOLDS [CHECKSUM [BYTES]]: a zip, unpacked in FOLDER. HOLDS: a path in it, or -
  local folder=$3/
  [ "$3" != . ] || folder=
  declare_item "$3" "$1" "$2" "$folder${2##*/}" "$4" "${5:-$NONE}" "${6:-$NONE}"
}

run() { # "$@" of the script: fetches what was declared. Sets `root`
  local list=no unpack=yes item
  while [[ ${1:-} == -* ]]; do
    case $1 in
      -h | --help)
        show_help
        exit
        ;;
      --list) list=yes ;;
      --no-unpack) unpack=no ;;
      *) fail "unknown option $1; usage: bash $0 [--help] [--list] [--no-unpack] [DATA_ROOT [PART ...]]" ;;
    esac
    shift
  done
  root=${1:-data}
  root=${root%/}
  choose "${@:2}"
  if [ "$list" = yes ]; then
    list_items
    exit
  fi
  require_programs "$unpack"
  mkdir -p "$root"
  lock_root
  require_room "$unpack"
  for item in "${items[@]}"; do
    get_item "$item" "$unpack"
  done
}

chosen() { # PART: whether it is among those that were asked for
  local item
  for item in "${items[@]}"; do
    [[ $item == *$'\t'"$1"$'\t'* ]] && return
  done
  return 1
}

# ------------------------------------------------------------------------------------------------ declared items

declare_item() { # WHERE PART URL PATH HOLDS CHECKSUM BYTES
  local url=$3
  if [ -n "${LOCVLM_DOWNLOAD_BASE:-}" ]; then
    url=${url#*://}
    url=${LOCVLM_DOWNLOAD_BASE%/}/${url#*/}
  fi
  items+=("$1"$'\t'"$2"$'\t'"$url"$'\t'"$4"$'\t'"$5"$'\t'"$6"$'\t'"$7")
}

choose() { # PATTERN ...: keeps the items of these parts
  local pattern item where part rest kept=() found known=()
  [ $# -gt 0 ] || return 0
  for item in "${items[@]}"; do
    IFS=$'\t' read -r where part rest <<<"$item"
    known+=("$part")
  done
  for pattern in "$@"; do
    found=no
    for part in "${known[@]}"; do
      # shellcheck disable=SC2053 # a pattern
      [[ $part == $pattern ]] && found=yes
    done
    [ $found = yes ] || fail "no part is called $pattern; there are: $(printf '%s\n' "${known[@]}" | uniq | xargs)"
  done
  for item in "${items[@]}"; do
    IFS=$'\t' read -r where part rest <<<"$item"
    for pattern in "$@"; do
      # shellcheck disable=SC2053
      if [[ $part == $pattern ]]; then
        kept+=("$item")
        break
      fi
    done
  done
  items=("${kept[@]}")
}

list_items() {
  local item where part url path holds checksum bytes gives
  printf 'part\tbytes\tchecksum\taddress\tfile\tgives\n'
  for item in "${items[@]}"; do
    IFS=$'\t' read -r where part url path holds checksum bytes <<<"$item"
    [ "$bytes" != "$NONE" ] || bytes="not known"
    [ "$checksum" != "$NONE" ] || checksum="none published"
    gives=$root/$path
    if [ "$where" != file ]; then
      gives=$root/$where
      [ "$holds" = "$NONE" ] || gives+=/$holds
    fi
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$part" "$bytes" "$checksum" "$url" "$root/$path" "${gives/\/.\//\/}"
  done
}

lock_root() { # two at once would write to the same partial files
  if has flock; then
    exec 9>"$root/.download-$(basename "$0" .sh).lock"
    flock -n 9 || fail "another one is at work in $root"
  fi
}

get_item() { # ITEM UNPACK
  local where part url path holds checksum bytes
  IFS=$'\t' read -r where part url path holds checksum bytes <<<"$1"
  if is_unpacked "$where" "$path" "$holds"; then
    echo "there: $root/$where, from ${path##*/}"
    return
  fi
  fetch "$url" "$root/$path" "$checksum" "$bytes"
  [ "$where" != file ] && [ "$2" = yes ] || return 0
  unpack_zip "$root/$path" "$root/$where" "$holds"
  touch "$root/$where/.unpacked-${path##*/}"
}

is_unpacked() { # WHERE PATH HOLDS
  [ "$1" != file ] && [ -e "$root/$1/.unpacked-${2##*/}" ] && { [ "$3" = "$NONE" ] || [ -e "$root/$1/$3" ]; }
}

# ------------------------------------------------------------------------------- what is missed before it is needed

require_programs() { # UNPACK
  local item
  has curl || has wget || fail "neither curl nor wget is here; install one of them"
  [ "$1" = yes ] && ! has unzip && ! has python3 || return 0
  for item in "${items[@]}"; do
    [[ $item == file$'\t'* ]] ||
      fail "neither unzip nor python3 is here; install one of them, or leave the zips packed by --no-unpack"
  done
}

require_room() { # UNPACK: for all that is to come, as far as sizes are known; photographs do not get smaller in a zip
  local item where part url path holds checksum bytes need=0
  for item in "${items[@]}"; do
    IFS=$'\t' read -r where part url path holds checksum bytes <<<"$item"
    ! is_unpacked "$where" "$path" "$holds" || continue
    bytes=$(number_of_bytes "$bytes")
    [ "$where" = file ] || [ "$1" = no ] || need=$((need + bytes))
    if [ ! -e "$root/$path" ]; then
      bytes=$((bytes - $(bytes_of "$root/$path.partial")))
      need=$((need + (bytes > 0 ? bytes : 0)))
    fi
  done
  require_free "$need" "what is asked for; make room, or fetch it part by part (--list)"
}

require_free() { # BYTES FOR_WHAT
  local free # in bytes; empty where df does not know
  free=$(df -Pk "$root" | awk 'NR == 2 && $4 ~ /^[0-9]+$/ {printf "%.0f", $4 * 1024}')
  [ -z "$free" ] || [ "$1" -le "$free" ] ||
    fail "$root has room for $(in_gb "$free") GB, and $(in_gb "$1") GB are needed for $2"
}

number_of_bytes() { # "967382037", "about 6.46 GB"; 0 for what is not known
  awk -v text="$1" 'BEGIN {
    split(text, words, " "); unit["MB"] = 1e6; unit["GB"] = 1e9
    printf "%.0f", words[1] == "about" ? words[2] * unit[words[3]] : text ~ /^[0-9]+$/ ? text : 0
  }'
}

in_gb() {
  awk -v bytes="$1" 'BEGIN {printf "%.2f", bytes / 1e9}'
}
