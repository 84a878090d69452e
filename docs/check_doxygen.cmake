# Runs DOXYGEN on docs/Doxyfile of SOURCE with HTML below OUTPUT, and fails on a warning. With
# UNDOCUMENTED nothing is written: it fails where a type, or anything that stands in a namespace by
# itself, has no comment. (Doxygen can only ask for the members of every type as well.)
file(READ ${SOURCE}/docs/Doxyfile settings)
string(APPEND settings "\nOUTPUT_DIRECTORY = \"${OUTPUT}\"\n")
if(UNDOCUMENTED)
  string(APPEND settings
    "GENERATE_HTML = NO\nGENERATE_XML = YES\nXML_OUTPUT = documentation-xml\n"
    "WARN_IF_UNDOCUMENTED = YES\nWARN_AS_ERROR = NO\n")
endif()
set(configuration ${OUTPUT}/documentation-check-${UNDOCUMENTED}.doxygen)
file(WRITE ${configuration} "${settings}")

execute_process(COMMAND ${DOXYGEN} ${configuration} WORKING_DIRECTORY ${SOURCE}
  OUTPUT_VARIABLE printed ERROR_VARIABLE printed RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "doxygen ended with ${result}\n${printed}")
endif()
if(UNDOCUMENTED)
  string(REGEX MATCHALL "[^\n]*(Compound|of namespace) [^\n]*is not documented[^\n]*" missing
    "${printed}")
  if(missing)
    string(REPLACE ";" "\n" missing "${missing}")
    message(FATAL_ERROR "These have no comment:\n${missing}")
  endif()
endif()
