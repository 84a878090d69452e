#!/bin/sh
# A page as Doxygen reads it: links lose the heading that they lead to, since Doxygen names headings
# in its own way, and code such as `::member` loses the colons that would make it a link.
exec sed -E -e 's/\[([^]]*)\]\(#[^)]*\)/\1/g' -e 's/\]\(([^)#]+\.md)#[^)]*\)/](\1)/g' -e 's/`::/`/g' "$1"
