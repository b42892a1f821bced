"""Damage to files: flipped bits, cuts, other content, archives packed again, members and rows exchanged."""

import io
import shutil
import sqlite3
import zipfile


def flip(data, rng):
    """Return bytes with one bit flipped."""
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def cut(data, rng):
    """Return the begin of bytes."""
    return data[: rng.randrange(len(data))]


def overwrite(data, rng):
    """Return bytes with a stretch of zeros, as a lost page of a disk."""
    place = rng.randrange(len(data))
    return data[:place] + bytes(min(512, len(data) - place)) + data[place + 512 :]


def other_type(data, rng):
    """Return the content of another type of file."""
    return rng.choice(
        [b"", b"\n", b"epoch,loss\n1,0.5\n", b"{}", b"[]", b"\x89PNG\r\n\x1a\n", data[::-1]]
    )


def rezip(data, rng, members=None):
    """Return an archive packed again with one bit of a member flipped, so that its CRC-32 is right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice([n for n in content if members is None or n in members])
    return _zip(content | {name: flip(content[name], rng)})


def exchange_members(data, rng):
    """Return an archive in which two members have exchanged their content."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    one, two = rng.sample(sorted(content), 2)
    return _zip(content | {one: content[two], two: content[one]})


def _zip(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return file.getvalue()


def edit_row(path, rng):
    """Change one row of a SQLite file of Optuna by SQL: delete it, or exchange two values."""
    connection = sqlite3.connect(path)
    tables = ("trial_user_attributes", "study_user_attributes", "trials")
    table = rng.choice(tables)
    key = {"trials": "trial_id"}.get(table, table[:-1].replace("attributes", "attribute") + "_id")
    if table.endswith("attributes"):
        key = table.removesuffix("s") + "_id"
    keys = [row[0] for row in connection.execute(f"SELECT {key} FROM {table}")]
    column = {"trials": "state"}.get(table, "value_json")
    if len(keys) < 2 or rng.random() < 0.5:
        connection.execute(f"DELETE FROM {table} WHERE {key} = ?", [rng.choice(keys)])
    else:
        one, two = rng.sample(keys, 2)
        query = f"SELECT {column} FROM {table} WHERE {key} = ?"
        values = [connection.execute(query, [k]).fetchone()[0] for k in (two, one)]
        for k, value in zip((one, two), values, strict=True):
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", [value, k])
    connection.commit()
    connection.close()


def copy_folder(source, target):
    """Copy a folder to a path that may exist."""
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(source, target)
