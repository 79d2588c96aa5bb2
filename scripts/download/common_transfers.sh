# shellcheck shell=bash
# Part of common.sh: one file, fetched by curl or wget, tried again, held against its size and checksum.

fetch() { # URL FILE [CHECKSUM [BYTES]]: FILE is whole and verified afterwards, or the script ends
  local url=$1 path=$2 checksum=${3:-$NONE} bytes=${4:-$NONE} wrong
  if [ -e "$path" ]; then
    wrong=$(difference "$path" "$checksum" "$bytes")
    [ -z "$wrong" ] || fail "$path is not what $url has: $wrong. It stays as it is; move it away to fetch it."
    echo "there: $path"
    return
  fi
  echo "fetching: $url -> $path"
  mkdir -p "$(dirname "$path")"
  transfer "$url" "$path.partial" "$bytes"
  wrong=$(difference "$path.partial" "$checksum" "$bytes")
  if [ -n "$wrong" ]; then
    mv -f "$path.partial" "$path.rejected"
    fail "$url is not the file that was expected: $wrong. What came is $path.rejected; run this again to fetch anew."
  fi
  mv -n "$path.partial" "$path"
}

transfer() { # URL PARTIAL BYTES: tries again, ever later, as long as that may help
  local url=$1 partial=$2 bytes=$3 tries=${LOCVLM_DOWNLOAD_TRIES:-6} wait=${LOCVLM_DOWNLOAD_WAIT:-2}
  local failed=0 best status pause
  best=$(bytes_of "$partial")
  while [ "$(bytes_of "$partial")" != "$bytes" ]; do
    status=000
    receive "$url" "$partial" && return
    case $status in
      416) rm -f "$partial" ;; # more is there than the server has, or exactly all of an unknown size: from the start
      408 | 425 | 429) ;;
      4??) fail "$url: the server answers $status; nothing was written. See whether the address is still right." ;;
    esac
    if [ "$(bytes_of "$partial")" -gt "$best" ]; then # it gets on, if slowly
      best=$(bytes_of "$partial") failed=0
    fi
    failed=$((failed + 1))
    [ "$failed" -lt "$tries" ] || fail "$url: given up after $failed tries without progress (last answer: $status). \
$(bytes_of "$partial") bytes are there; run this again to go on."
    pause=$((wait << (failed < 6 ? failed - 1 : 5)))
    echo "cut at $(bytes_of "$partial") bytes (answer $status); again in $pause s" >&2
    sleep "$pause"
  done
}

receive() { # URL PARTIAL: one try. Sets `status`, the HTTP status, or 000
  local progress code=0 stall=${LOCVLM_DOWNLOAD_STALL:-60}
  if has curl; then
    if [ -t 2 ]; then progress=--progress-bar; else progress=-sS; fi
    # less than a byte a second for so long is a dead connection
    status=$(curl "$progress" --fail --location --continue-at - --connect-timeout 30 --speed-limit 1 \
      --speed-time "$stall" --output "$2" --write-out '%{http_code}' "$1") || code=$?
    [ $code -ne 23 ] || fail "$2 cannot be written; is the disk full? Make room and run this again to go on."
    if [ $code -eq 33 ]; then # this server cannot go on: from the start
      rm -f "$2"
      return 1
    fi
    return $code
  fi
  status=$({ wget --continue --tries=1 --timeout="$stall" --server-response --output-document "$2" "$1" 2>&1 || code=$?
    exit $code; } | awk '/^ *HTTP\//{status = $2} END{print status ? status : "000"}') || code=$?
  [ $code -ne 3 ] || fail "$2 cannot be written; is the disk full? Make room and run this again to go on."
  [ "$status" != 416 ] || return 1 # wget takes it for the end of the file
  return $code
}

bytes_of() {
  if [ -e "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi
}

difference() { # PATH CHECKSUM BYTES: what is wrong with a file, or nothing
  local path=$1 checksum=$2 bytes=$3 got start kind=sha256
  got=$(bytes_of "$path")
  if [[ $bytes =~ ^[0-9]+$ ]] && [ "$got" -ne "$bytes" ]; then
    echo "$got bytes instead of $bytes"
    return
  fi
  start=$(head -c 2 "$path" | tr -d '\0')
  case ${path%.partial} in # a page that says sorry, under status 200
    *.zip) [ "$start" = PK ] || echo "no zip, it begins with '$start'" ;;
    *.json) [[ $start == [\{\[]* ]] || echo "no JSON, it begins with '$start'" ;;
  esac
  [ "$checksum" != "$NONE" ] || return 0
  [ ${#checksum} -ne 32 ] || kind=md5
  if has "${kind}sum"; then
    got=$("${kind}sum" <"$path")
  elif [ $kind = md5 ]; then
    got=$(md5 -q <"$path")
  else
    got=$(shasum -a 256 <"$path")
  fi
  got=${got%% *}
  [ "$got" = "$checksum" ] || echo "its $kind is $got instead of $checksum"
}
