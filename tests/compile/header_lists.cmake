# Writes two headers into the folder OUTPUT: all_headers.hpp includes every header of the library
# below INCLUDE, outside_headers.hpp whatever these include that is not the library's.
#   cmake -D INCLUDE=include -D OUTPUT=folder -P header_lists.cmake
cmake_minimum_required(VERSION 3.20)

file(GLOB_RECURSE headers RELATIVE ${INCLUDE} ${INCLUDE}/diffusion/*.hpp)
list(SORT headers)
set(all "")
set(outside "")
foreach(header IN LISTS headers)
  string(APPEND all "#include <${header}>\n")
  file(STRINGS ${INCLUDE}/${header} lines REGEX "^ *# *include <")
  list(APPEND outside ${lines})
endforeach()
list(FILTER outside EXCLUDE REGEX "<diffusion/")
list(REMOVE_DUPLICATES outside)
list(SORT outside)
list(JOIN outside "\n" outside)
file(WRITE ${OUTPUT}/all_headers.hpp "${all}")
file(WRITE ${OUTPUT}/outside_headers.hpp "${outside}\n")
