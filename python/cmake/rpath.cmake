# Where a library or a program looks for others: cmake -DFILE=... -DRPATH=... -P rpath.cmake
file(RPATH_SET FILE ${FILE} NEW_RPATH ${RPATH})
